"""Flickr8k (Hodosh et al. 2013): Flickr8k.token.txt, Kaggle's captions.txt or Karpathy's json, and the three lists."""

from src.data.formats._flickr import FlickrReader

READER = FlickrReader(
    captions=["Flickr8k.token.txt", "captions.txt", "dataset_flickr8k.json"],
    images=["Flickr8k_Dataset/Flicker8k_Dataset", "Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"],
    karpathy="dataset_flickr8k.json",
)
read_samples = READER.read_samples
raw_captions = READER.raw_captions
official_split = READER.official_split
find_problems = READER.find_problems
