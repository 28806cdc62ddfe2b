"""How a model learns: optimisers and schedules, float and int8 stages, quantisation."""
