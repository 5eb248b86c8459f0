"""Flickr30k (Young et al. 2014): results.csv, the official token file, Kaggle's captions.txt or Karpathy's json."""

from src.data.formats._flickr import FlickrReader

READER = FlickrReader(
    captions=[
        "results.csv",
        "flickr30k_images/results.csv",
        "results_20130124.token",
        "captions.txt",
        "dataset_flickr30k.json",
    ],
    images=[
        "flickr30k_images/flickr30k_images",
        "flickr30k_images",
        "flickr30k-images",
        "Flickr30k_Dataset",
        "Images",
        "images",
    ],
    karpathy="dataset_flickr30k.json",
)
read_samples = READER.read_samples
raw_captions = READER.raw_captions
official_split = READER.official_split
find_problems = READER.find_problems
