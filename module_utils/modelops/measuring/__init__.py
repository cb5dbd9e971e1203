"""Running models in processes of their own: speed, memory, similarity, golden data.

Gives `Model`, `Setup`, `compare`, golden data, and what a measurement needs of memory. Whether a
figure is good enough is not decided here. Imports base and model.
"""
