"""The postcard world: procedural scenes with exact truth, drawn with numpy and Pillow alone.

Knows nothing of networks or training. Scene i of seed s is a pure function of (s, i).
"""
