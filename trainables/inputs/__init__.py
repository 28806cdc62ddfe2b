"""The batches that a training gets: images, augmented images, or the output of frozen blocks."""
