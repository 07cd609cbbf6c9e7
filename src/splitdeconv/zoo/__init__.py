"""Networks of the paper, built without any training framework. One file each."""
