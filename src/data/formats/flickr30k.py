"""Flickr30k (Young et al. 2014): results.csv, the official token file, captions.txt, or Karpathy's json or table."""

from src.data.formats._flickr import FlickrReader

READER = FlickrReader(
    captions=[
        "results.csv",
        "results_20130124.token",
        "captions.txt",
        "flickr_annotations_30k.csv",
        "dataset_flickr30k.json",
    ],
    images=["flickr30k_images", "flickr30k-images", "Flickr30k_Dataset", "Images", "images"],
    karpathy="dataset_flickr30k.json",
)
read_samples = READER.read_samples
raw_captions = READER.raw_captions
official_split = READER.official_split
find_problems = READER.find_problems
