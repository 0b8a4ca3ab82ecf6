"""Is new data still like the data a model knows, and does the model still hold on it? PSI, KS, centroids, decay."""
