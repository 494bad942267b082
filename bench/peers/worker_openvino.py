"""OpenVINO in float32, with the static shape that suits it best."""

import onnx_models
from common import images, repeat, sequences, serve, task

task = task()

import openvino  # noqa: E402

core = openvino.Core()
x = images(task.batch) if task.name == "infer-cnn" else sequences(task)[0]
model = core.read_model(onnx_models.model(task))
model.reshape(list(x.shape))
config = {
    "INFERENCE_NUM_THREADS": task.threads,
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
}
request = core.compile_model(model, "CPU", config).create_infer_request()


def call():
    request.infer([x], share_inputs=True)
    return request.get_output_tensor(0).data.copy()


serve(f"OpenVINO {openvino.__version__.split('-')[0]}", repeat(call))
