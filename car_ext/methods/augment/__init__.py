"""Augmentation: of single images while they are loaded (`images`), of a batch by another (`mix`)."""
