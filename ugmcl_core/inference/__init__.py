"""From a volume and a model to labels, signed distance and uncertainty."""
