"""What a model's forward pass and its training take, counted before either happens."""
