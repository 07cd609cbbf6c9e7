"""What a deconv is: geometry, programs, weights, and the definition."""
