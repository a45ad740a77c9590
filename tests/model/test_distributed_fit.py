"""The loop for several workers, on one: what it tells callbacks, and how it ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.model import AdaptiveRec, StopOnNaN
from adaptiverec.model.distributed_fit import distributed_fit

NUM_ITEMS = 9


class Recorder(keras.callbacks.Callback):
    """Notes what it is told, and may end the training."""

    def __init__(self, last_epoch: int | None = None) -> None:
        super().__init__()
        self.told: list[tuple] = []
        self._last_epoch = last_epoch

    def on_train_begin(self, logs=None) -> None:
        self.told.append(("begin",))

    def on_train_end(self, logs=None) -> None:
        self.told.append(("end",))

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self.told.append(("epoch", epoch))

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.told.append(("step", batch, logs))

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.told.append(("done", epoch, dict(logs)))
        if epoch == self._last_epoch:
            self.model.stop_training = True


@pytest.fixture(scope="module")
def batches() -> tf.data.Dataset:
    ids = np.arange(6 * 4, dtype=np.int32).reshape(6, 4) % NUM_ITEMS + 1
    inputs = {"item_ids": ids, "seen_item_ids": ids, "same_target_item_ids": ids}
    targets = ids[:, 0]
    return tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(3)


def model_of(**options) -> AdaptiveRec:
    keras.utils.set_random_seed(1)
    model = AdaptiveRec(
        NUM_ITEMS, max_length=4, hidden_dim=8, num_blocks=1, inner_dim=8, **options
    )
    model.compile(keras.optimizers.Adam(0.01))
    return model


def test_callbacks_are_told_of_epochs_and_steps_and_may_end_the_training(
    batches,
) -> None:
    recorder = Recorder(last_epoch=3)
    history = distributed_fit(
        model_of(),
        batches,
        epochs=9,
        initial_epoch=2,
        validation_data=batches,
        callbacks=[recorder],
    )
    # Figures are for the end of an epoch, as `fit` names them.
    logs = [event[2] for event in recorder.told if event[0] == "done"]
    assert logs[0].keys() >= {"loss", "contrastive_loss", "val_loss", "val_ndcg@10"}
    assert history == {name: [log[name] for log in logs] for name in logs[0]}
    assert recorder.told == [
        ("begin",),
        *(("epoch", 2), ("step", 0, {}), ("step", 1, {}), ("done", 2, logs[0])),
        *(("epoch", 3), ("step", 0, {}), ("step", 1, {}), ("done", 3, logs[1])),
        ("end",),
    ]


def test_a_term_that_is_no_number_is_named_with_its_epoch(batches) -> None:
    # So low that similarities over it are infinite; a second step would break all terms.
    model = model_of(temperature=1e-42)
    with pytest.raises(
        StageError, match="Received: contrastive_loss not finite in epoch 1$"
    ):
        distributed_fit(model, batches.take(1), epochs=2, callbacks=[StopOnNaN()])


def test_what_cannot_be_trained_is_refused(batches) -> None:
    with pytest.raises(InvalidValueError, match="epochs must be at least 1"):
        distributed_fit(model_of(), batches, epochs=0)
    model = AdaptiveRec(NUM_ITEMS, max_length=4, hidden_dim=8, num_blocks=1)
    with pytest.raises(InvalidValueError, match="must be compiled"):
        distributed_fit(model, batches, epochs=1)
