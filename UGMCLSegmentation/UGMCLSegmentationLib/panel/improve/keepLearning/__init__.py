"""Keep learning: a training that takes the cases that the user accepts, while it runs."""
