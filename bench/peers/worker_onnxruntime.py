"""ONNX Runtime, on as many threads as asked for or, "one thread", on one."""

import onnx_models
from common import images, repeat, sequences, serve, task

task = task()

import onnxruntime  # noqa: E402

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1 if "one thread" in task.variant else task.threads
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(onnx_models.model(task), options, providers=["CPUExecutionProvider"])
x = images(task.batch) if task.name == "infer-cnn" else sequences(task)[0]
serve(f"ONNX Runtime {onnxruntime.__version__}", repeat(lambda: session.run(None, {"x": x})[0]))
