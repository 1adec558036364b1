"""Tiny image files, told apart by their colour."""

from PIL import Image


def save(path, red=0, green=0, blue=0):
    """A picture of one colour, with the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (red, green, blue)).save(path)
    return path


def pets(root, train="train", test="test", classes=("ant", "bee"), each=3):
    """A folder of as many different pictures of every class in each split; None leaves a split out."""
    for blue, split in ((0, train), (255, test)):
        for label, name in enumerate(classes if split else ()):
            for number in range(each):
                save(root / split / name / f"{number}.png", label, number, blue)
    return root
