"""Classify, Regress and MultiInference, on signatures as Estimators have written them."""

from __future__ import annotations

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from adaptiverec.serving.server import ModelServer

INVALID = grpc.StatusCode.INVALID_ARGUMENT
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
PREDICT = "tensorflow/serving/predict"


def save_examples_model(path):
    """Of x in each example: classes "low" and "high" by -x and x; and twice x."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        v1 = tf.compat.v1
        examples = v1.placeholder(tf.string, [None], "examples")
        others = v1.placeholder(tf.string, [None], "others")
        spec = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        x = tf.io.parse_example(examples, spec)["x"]
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1])
        scores = tf.concat([-x, x], axis=1)
        tensors = {
            "classes": classes,
            "scores": scores,
            "one_class": classes[:, :1],
            "numbers": tf.cast(scores, tf.int64),
            "flat": x[:, 0],
            "double": tf.cast(x, tf.float64),
            "twice": 2 * x,
            "one_more": tf.concat([x, x], axis=0),
        }

        def signature(method, inputs=None, **outputs):
            info = v1.saved_model.build_tensor_info
            inputs = {"inputs": examples} if inputs is None else inputs
            return v1.saved_model.build_signature_def(
                {alias: info(tensor) for alias, tensor in inputs.items()},
                {alias: info(tensors[name]) for alias, name in outputs.items()},
                method,
            )

        both = {"classes": "classes", "scores": "scores"}
        signatures = {
            "serving_default": signature(CLASSIFY, **both),
            "scores": signature(CLASSIFY, scores="scores"),
            "classes": signature(CLASSIFY, classes="classes"),
            # As from a tf.function, whose method is always this.
            "native": signature(PREDICT, **both),
            "regress": signature(REGRESS, outputs="twice"),
            "regress_flat": signature(REGRESS, outputs="flat"),
            "two_inputs": signature(
                CLASSIFY, {"inputs": examples, "others": others}, **both
            ),
            "other_input": signature(CLASSIFY, {"examples": examples}, **both),
            "of_others": signature(CLASSIFY, {"inputs": others}, **both),
            "other_outputs": signature(CLASSIFY, labels="classes"),
            "flat_scores": signature(CLASSIFY, scores="flat"),
            "number_classes": signature(CLASSIFY, classes="numbers"),
            "number_scores": signature(CLASSIFY, scores="numbers"),
            "unequal": signature(CLASSIFY, classes="one_class", scores="scores"),
            "many_rows": signature(CLASSIFY, scores="one_more"),
            "wide": signature(REGRESS, outputs="scores"),
            "double": signature(REGRESS, outputs="double"),
            "many": signature(REGRESS, outputs="one_more"),
            "misnamed": signature(REGRESS, values="twice"),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("examples")
    save_examples_model(base / "5")
    return base


@pytest.fixture(scope="module")
def server(base):
    with ModelServer(model_base_path=base, model_name="toy", port=0) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server, new_caller):
    caller = new_caller(server.port)
    yield caller
    caller.channel.close()


def example(x):
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature}))


def examples(*values):
    return input_pb2.Input(
        example_list=input_pb2.ExampleList(examples=[example(x) for x in values])
    )


def request_of(kind, signature="", *values, given=None):
    request = kind(input=examples(*values) if given is None else given)
    request.model_spec.name = "toy"
    request.model_spec.signature_name = signature
    return request


def classify(*args, **kwargs):
    return request_of(classification_pb2.ClassificationRequest, *args, **kwargs)


def regress(*args, **kwargs):
    return request_of(regression_pb2.RegressionRequest, *args, **kwargs)


def answered(result):
    return [
        [(entry.label, entry.score) for entry in row.classes]
        for row in result.classifications
    ]


def who(spec):
    return spec.name, spec.version.value, spec.signature_name


def test_classify(stubs):
    response = stubs.prediction.Classify(classify("", 1.5, -2.0))
    assert answered(response.result) == [
        [("low", -1.5), ("high", 1.5)],
        [("low", 2.0), ("high", -2.0)],
    ]
    assert who(response.model_spec) == ("toy", 5, "serving_default")
    response = stubs.prediction.Classify(classify("scores", 1.5))
    assert answered(response.result) == [[("", -1.5), ("", 1.5)]]
    response = stubs.prediction.Classify(classify("classes", 1.5))
    assert answered(response.result) == [[("low", 0.0), ("high", 0.0)]]
    assert who(response.model_spec) == ("toy", 5, "classes")


def test_a_signature_of_a_tf_function_classifies_too(stubs):
    response = stubs.prediction.Classify(classify("native", 1.0))
    assert answered(response.result) == [[("low", -1.0), ("high", 1.0)]]


def test_regress(stubs):
    response = stubs.prediction.Regress(regress("regress", 1.5, -2.0))
    assert [entry.value for entry in response.result.regressions] == [3.0, -4.0]
    assert who(response.model_spec) == ("toy", 5, "regress")
    response = stubs.prediction.Regress(regress("regress_flat", 1.5))
    assert [entry.value for entry in response.result.regressions] == [1.5]


def test_examples_may_share_a_context(stubs):
    given = input_pb2.Input()
    with_context = given.example_list_with_context
    with_context.context.CopyFrom(example(7.0))
    with_context.examples.add()
    with_context.examples.add().CopyFrom(example(1.0))
    response = stubs.prediction.Regress(regress("regress", given=given))
    # The example's own feature goes before the context's.
    assert [entry.value for entry in response.result.regressions] == [14.0, 2.0]


def test_predict_runs_these_signatures_as_well(stubs, helpers):
    request = helpers.predict_request(
        "regress", inputs=[example(1.5).SerializeToString()]
    )
    response = stubs.prediction.Predict(request)
    assert list(response.outputs["outputs"].float_val) == [3.0]


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        ("Classify", classify("x", 1.0), "No signature was found with the name: x"),
        ("Regress", regress("x", 1.0), "No signature was found with the name: x"),
        ("Classify", classify(""), "Input is empty."),
        ("Regress", regress("regress", given=input_pb2.Input()), "Input is empty."),
        ("Classify", classify("two_inputs", 1.0), "Expected one input Tensor."),
        (
            "Classify",
            classify("other_input", 1.0),
            "No classification inputs found in SignatureDef: ",
        ),
        (
            "Classify",
            classify("other_outputs", 1.0),
            "Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: ',
        ),
        (
            "Classify",
            classify("flat_scores", 1.0, 2.0),
            "Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        (
            "Classify",
            classify("number_classes", 1.0),
            "Expected classes Tensor of DT_STRING. Got: DT_INT64",
        ),
        (
            "Classify",
            classify("number_scores", 1.0),
            "Expected scores Tensor of DT_FLOAT. Got: DT_INT64",
        ),
        (
            "Classify",
            classify("unequal", 1.0),
            "Tensors class and score should match in dim_size(1). Got 1 vs. 2",
        ),
        (
            "Classify",
            classify("many_rows", 1.0),
            "Expected scores output batch size of 1. Got: 2",
        ),
        ("Regress", regress("", 1.0), "Expected one output Tensor."),
        (
            "Regress",
            regress("misnamed", 1.0),
            "No regression outputs found in SignatureDef: ",
        ),
        (
            "Regress",
            regress("wide", 1.0),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            "but got [1,2]",
        ),
        (
            "Regress",
            regress("double", 1.0),
            "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE",
        ),
        (
            "Regress",
            regress("many", 1.0),
            "Input batch size did not match output batch size: 1 vs. 2",
        ),
        ("Classify", classification_pb2.ClassificationRequest(), "Missing ModelSpec"),
        ("Regress", regression_pb2.RegressionRequest(), "Missing ModelSpec"),
    ],
)
def test_refusals(stubs, method, request_, message):
    code, received = stubs.refusal(request_, method)
    assert code == INVALID
    assert received.startswith(message)


def test_an_example_without_the_feature_is_refused_by_the_op(stubs):
    given = input_pb2.Input()
    given.example_list.examples.add()
    code, message = stubs.refusal(regress("regress", given=given), "Regress")
    assert code == INVALID
    assert "Feature: x (data type: float) is required" in message


def multi(*tasks, values=(1.5,)):
    request = inference_pb2.MultiInferenceRequest(input=examples(*values))
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return request


def test_multi_inference(stubs):
    response = stubs.prediction.MultiInference(
        multi(("toy", "", CLASSIFY), ("toy", "regress", REGRESS))
    )
    first, second = response.results
    assert answered(first.classification_result) == [[("low", -1.5), ("high", 1.5)]]
    assert who(first.model_spec) == ("toy", 5, "serving_default")
    assert [entry.value for entry in second.regression_result.regressions] == [3.0]
    assert who(second.model_spec) == ("toy", 5, "regress")


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (multi(), INVALID, "ModelSpec has no name specified."),
        (
            multi(("toy", "", CLASSIFY), ("", "regress", REGRESS)),
            INVALID,
            "Found ModelSpec with an empty model name.",
        ),
        (
            multi(("toy", "", CLASSIFY), ("shop", "regress", REGRESS)),
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            multi(("toy", "", CLASSIFY), ("toy", "serving_default", CLASSIFY)),
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            multi(("toy", "x", CLASSIFY)),
            INVALID,
            "Requested signature not found in model graph: x",
        ),
        (
            multi(("toy", "", PREDICT)),
            grpc.StatusCode.UNIMPLEMENTED,
            f"Unsupported signature method_name: {PREDICT}",
        ),
        (
            multi(("toy", "regress", REGRESS), ("toy", "of_others", CLASSIFY)),
            INVALID,
            "Input tensor must be the same for all Signatures.",
        ),
        (multi(("toy", "", CLASSIFY), values=()), INVALID, "Input is empty."),
        (
            multi(("shop", "", CLASSIFY)),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(shop)",
        ),
    ],
)
def test_multi_inference_refusals(stubs, request_, code, message):
    assert stubs.refusal(request_, "MultiInference") == (code, message)


def test_method_names_count_where_told_so(start, base, helpers):
    _, caller = start(base, enable_signature_method_name_check=True)
    assert caller.refusal(classify("native", 1.0), "Classify") == (
        INVALID,
        f"Expected classification signature method_name to be {CLASSIFY}. Was: {PREDICT}",
    )
    assert caller.refusal(regress("scores", 1.0), "Regress") == (
        INVALID,
        f"Expected regression signature method_name to be {REGRESS}. Was: {CLASSIFY}",
    )
    response = caller.prediction.Classify(classify("", 1.5))
    assert answered(response.result) == [[("low", -1.5), ("high", 1.5)]]


def test_these_requests_warm_up_too(start, helpers, tmp_path):
    logs = [prediction_log_pb2.PredictionLog() for _ in range(4)]
    logs[0].classify_log.request.CopyFrom(classify("", 1.0))
    logs[1].regress_log.request.CopyFrom(regress("regress", 1.0))
    logs[2].multi_inference_log.request.CopyFrom(multi(("toy", "", CLASSIFY)))
    path = tmp_path / "base" / "1"
    save_examples_model(path)
    # The last one is empty, and nothing to do.
    helpers.write_warm_up(path, [log.SerializeToString() for log in logs])
    _, caller = start(tmp_path / "base", num_request_iterations_for_warmup=2)
    logs[1].regress_log.request.model_spec.signature_name = "wide"
    second = tmp_path / "2"
    save_examples_model(second)
    helpers.write_warm_up(second, [log.SerializeToString() for log in logs])
    second.rename(tmp_path / "base" / "2")
    helpers.wait_until(lambda: caller.statuses().get(2, (0,))[0] == 50)
    _, code, message = caller.statuses()[2]
    assert code == INVALID.value[0]
    assert "but got [1,2]" in message
