"""Augmentation: of a batch of images, each by draws of its own (`images`), of a batch by another (`mix`)."""
