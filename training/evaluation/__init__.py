"""PostcardBench: fresh prompts, what a judge sees in a model's pictures, and the report.

Knows nothing of losses or of how a model was trained.
"""
