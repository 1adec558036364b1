"""What an export leaves for a server: `predict.py` and a model, here one that needs no training."""

import importlib.util
import json

import numpy as np
import onnx

from car_ext.export.export import standalone_predict


def exported_predict(folder):
    """The module that an export writes, written and imported."""
    path = folder / "predict.py"
    path.write_text(standalone_predict(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("predict_as_exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def colour_model(path, side=4, names=("red", "green", "blue"), class_counts=(3, 2, 1)):
    """A model of three classes, which sees the brightest of the channels."""
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["numbers"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["numbers"], ["logits"], axes=[1, 2], keepdims=0),
    ]
    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["batch", side, side, 3])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3])
    graph = onnx.helper.make_graph(nodes, "colours", [images], [logits])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    facts = {"class_names": names, "class_counts": class_counts}
    facts |= {"stored_size": side, "image_size": side, "channels": 3}
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    onnx.save(model, path)
    return path


def noise(low=0, high=256, shape=(6, 6, 3), dtype=np.uint8):
    return np.random.default_rng(0).integers(low, high, shape, dtype=dtype)
