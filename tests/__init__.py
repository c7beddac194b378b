"""The proof that the product does what it says."""
