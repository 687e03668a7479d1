"""Vector code for kernels of the model and the entropy model: a type, its functions, layers of small networks."""
