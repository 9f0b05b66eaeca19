"""What can be learnt: datasets that know their own shape, and the batches drawn from them."""
