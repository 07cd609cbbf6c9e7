"""What PyTorch users put into their networks."""
