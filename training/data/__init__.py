"""Pictures with captions on disk, ready to be read by (seed, step). Knows nothing of networks."""
