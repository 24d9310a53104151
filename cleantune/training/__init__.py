"""Training a model: the Trainer, batches, optimizers, checkpoints, DeepSpeed, memory."""
