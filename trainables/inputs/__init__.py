"""What a training gets in batches: images, augmented images, or the output of frozen blocks."""
