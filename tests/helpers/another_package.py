"""A package that is installed beside this one and adds a plugin to it."""

import sys


def install(root, monkeypatch, group: str, module: str, attribute: str, text: str) -> None:
    """Put a module into `root`, with an entry point of the group for one of its attributes, and `root` on the path."""
    monkeypatch.syspath_prepend(root)
    monkeypatch.delitem(sys.modules, module, raising=False)
    (root / f"{module}.py").write_text(text)
    about = root / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\nname = {module}:{attribute}\n")
