"""What runs in processes of their own; they import NumPy and one runtime, which takes a fraction of a second."""
