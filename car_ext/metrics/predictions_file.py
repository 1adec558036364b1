"""The predictions of every image on disk: a row an image in a parquet file that pandas, DuckDB and others read too."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from car_ext.errors import InputError, first_line
from car_ext.files import write_bytes
from car_ext.metrics.predictions import TOP, Predictions
from car_ext.text import image_names

COLUMNS = ("file", "split", "true", "predicted", "top_classes", "top_probabilities", "loss")
GROUP = 1 << 16  # rows that are compressed, and read, together
CLASSES = b"car_ext.class_names"  # in the file's metadata: the order of the logits


class PredictionsFile(NamedTuple):
    """What a file of predictions holds.

    Attributes:
        class_names: K names; the position is the label.
        splits: name of a split, such as test, to the predictions of its images.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Predictions]

    def write(self, path: Path) -> None:
        """Writes a row for each image.

        Columns are `file` (as of `text.image_names`), `split`, `true` and `predicted` (names of classes), `top_classes`
        and `top_probabilities` (lists, most probable first), `loss` (the cross-entropy of the true class, in nats) and,
        where they are kept, `logits` (a list in the order of the class names, which are in the metadata).
        """
        import pyarrow
        from pyarrow import parquet

        tables = [table for name, part in self.splits.items() for table in _tables(name, part, self.class_names)]
        schema = tables[0].schema.with_metadata({CLASSES: json.dumps(self.class_names)})
        content = pyarrow.BufferOutputStream()
        with parquet.ParquetWriter(content, schema) as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata(schema.metadata))
        write_bytes(path, content.getvalue())

    @classmethod
    def read(cls, path: Path) -> "PredictionsFile":
        """Reads what `write` wrote; images without a name have that of the column `file`.

        Raises:
            InputError: no such file, or one that is damaged or of another kind.
        """
        import pyarrow
        from pyarrow import parquet

        if not path.is_file():
            raise InputError(
                f"there is no file of predictions {str(path)!r}; a training writes one into its folder, and so does "
                "car-ext evaluate MODEL --data DATA --predictions FILE.parquet."
            )
        try:
            table = parquet.ParquetFile(path).read()
        except (pyarrow.ArrowException, OSError) as error:
            raise InputError(f"{path} is no parquet file, or damaged ({first_line(error)}); write it again.") from error
        metadata = table.schema.metadata or {}
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise InputError(f"{path} has no column {missing[0]!r}; give a predictions.parquet that car-ext wrote.")
        if CLASSES not in metadata:
            raise InputError(f"{path} does not name its classes; give a predictions.parquet as car-ext wrote it.")
        try:
            names = tuple(map(str, json.loads(metadata[CLASSES])))
            splits = dict.fromkeys(table["split"].to_pylist())
            return cls(names, {str(name): _predictions(table, name, names) for name in splits})
        except (pyarrow.ArrowException, ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({first_line(error)}); write it again.") from error


def _tables(split: str, predictions: Predictions, class_names: Sequence[str]) -> Iterator[Any]:
    files = image_names(split, predictions.files, len(predictions))
    for rows in np.split(np.arange(len(predictions)), range(GROUP, len(predictions), GROUP)):
        yield _table(split, predictions, files, rows, class_names)


def _table(
    split: str, predictions: Predictions, files: Sequence[str], rows: np.ndarray, class_names: Sequence[str]
) -> Any:
    import pyarrow

    names = pyarrow.array(class_names, pyarrow.string())
    top = predictions.top[rows]
    table = {
        "file": pyarrow.array([files[row] for row in rows], pyarrow.string()),
        "split": pyarrow.array([split] * len(rows), pyarrow.string()),
        "true": names.take(pyarrow.array(predictions.targets[rows])),
        "predicted": names.take(pyarrow.array(predictions.predicted[rows])),
        "top_classes": _lists(names.take(pyarrow.array(top.ravel())), top.shape[1]),
        "top_probabilities": _numbers(predictions.probabilities[rows]),
        "loss": pyarrow.array(predictions.loss[rows].astype(np.float32)),
    }
    if predictions.logits is not None:
        table["logits"] = _numbers(predictions.logits[rows])
    return pyarrow.table(table)


def _numbers(values: np.ndarray) -> Any:
    """(N, M) floats as N lists of float32."""
    import pyarrow

    return _lists(pyarrow.array(values.astype(np.float32).ravel()), values.shape[1])


def _lists(values: Any, length: int) -> Any:
    import pyarrow

    return pyarrow.ListArray.from_arrays(pyarrow.array(range(0, len(values) + 1, length), pyarrow.int32()), values)


def _predictions(table: Any, split: str, class_names: Sequence[str]) -> Predictions:
    """The rows of one split.

    Raises:
        ValueError: a name that is no class, a value that is missing, or lists of several lengths.
    """
    import pyarrow
    from pyarrow import compute

    rows, names = table.filter(compute.equal(table["split"], split)), pyarrow.array(class_names, pyarrow.string())
    labels = {name: compute.index_in(rows[name], names) for name in ("true", "predicted")}

    def matrix(column: str, width: int) -> np.ndarray:
        if (compute.list_value_length(rows[column]).to_numpy() != width).any():
            raise ValueError(f"its {column} are not {width} an image")
        parts = [chunk.flatten() for chunk in rows[column].chunks]
        if column == "top_classes":
            parts = [compute.index_in(part, names) for part in parts]
        if any(part.null_count for part in parts):
            raise ValueError(f"its {column} have values that are missing or name no class")
        return np.concatenate([part.to_numpy() for part in parts]).reshape(-1, width)

    if any(rows[name].null_count for name in COLUMNS) or any(column.null_count for column in labels.values()):
        raise ValueError("a value is missing, or a name is no class")
    width = min(TOP, len(class_names))
    top = matrix("top_classes", width).astype(np.int64)
    if (top[:, 0] != labels["predicted"].to_numpy()).any():
        raise ValueError("what is predicted is not the most probable class")
    return Predictions(
        labels["true"].to_numpy().astype(np.int64),
        top,
        matrix("top_probabilities", width).astype(np.float64),
        rows["loss"].to_numpy().astype(np.float64),
        matrix("logits", len(class_names)) if "logits" in rows.column_names else None,
        tuple(rows["file"].to_pylist()),
    )
