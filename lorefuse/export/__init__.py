"""A trained ranker as ONNX graphs, a bundle that carries everything, and a Triton model repository."""
