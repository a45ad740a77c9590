"""Scores, embeddings, similar items and classes, asked as TensorFlow Serving asks."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def known_scores(trained, history: list[int]) -> np.ndarray:
    return np.asarray(trained(np.array([history], np.int32)))[0]


def test_scores_are_the_models(artefact, trained, catalogue) -> None:
    answer = artefact(
        "score",
        history=[catalogue[:2], ["new", ""]],
        candidates=[[catalogue[9], "new", ""], [catalogue[0], catalogue[4], "new"]],
    )
    assert answer["known"].tolist() == [[True, False, False], [True, True, False]]
    assert answer["fallback"].tolist() == [False, True]
    expected = known_scores(trained, [1, 2])[10]
    np.testing.assert_allclose(answer["scores"][0], [expected, 0, 0], atol=1e-5)


def test_a_history_that_tells_nothing_is_scored_by_popularity(
    artefact, catalogue, prepared_path
) -> None:
    from adaptiverec.model.prepared_data import PreparedData

    sequences = PreparedData.open(str(prepared_path)).sequences()
    counts = np.zeros(101, int)
    for user in range(sequences.num_users):
        for place in range(sequences.starts[user], sequences.train_ends[user]):
            counts[sequences.items[place]] += 1
    answer = artefact("score", history=[[""]], candidates=[catalogue])
    assert answer["scores"][0].tolist() == counts[1:].tolist()


def test_scores_are_products_of_the_embeddings(artefact, catalogue) -> None:
    histories = [catalogue[:3], catalogue[5:8]]
    sequence = artefact("embed_sequence", history=histories)
    item = artefact("embed_item", items=catalogue)
    assert sequence["known"].tolist() == [True, True]
    assert item["known"].all()
    answer = artefact("score", history=histories, candidates=[catalogue, catalogue])
    np.testing.assert_allclose(
        sequence["embedding"] @ item["embedding"].T, answer["scores"], atol=1e-4
    )


def test_item_embeddings_are_the_models(artefact, trained, catalogue) -> None:
    answer = artefact("embed_item", items=[catalogue[41], "new", "", catalogue[0]])
    assert answer["known"].tolist() == [True, False, False, True]
    vectors = trained.encoder.item_embedding.embeddings.numpy()
    expected = [vectors[42], np.zeros(16), np.zeros(16), vectors[1]]
    np.testing.assert_array_equal(answer["embedding"], expected)


def test_a_history_that_tells_nothing_has_no_embedding(artefact) -> None:
    answer = artefact("embed_sequence", history=[["new"], [""]])
    assert answer["known"].tolist() == [False, False]
    assert not answer["embedding"].any()


def test_similar_items_are_of_greatest_cosine(artefact, trained, catalogue) -> None:
    vectors = trained.encoder.item_embedding.embeddings.numpy()[1:101]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    answer = artefact("similar_items", items=catalogue, k=[5])
    assert answer["known"].all()
    for row in range(100):
        others = np.delete(np.arange(100), row)
        best = np.sort(cosines[row, others])[::-1][:5]
        items = [catalogue.index(item.decode()) for item in answer["items"][row]]
        assert row not in items
        np.testing.assert_allclose(answer["scores"][row], best, atol=1e-5)
        np.testing.assert_allclose(cosines[row, items], best, atol=1e-5)


def test_similar_items_of_an_unknown_one_are_none(artefact, catalogue) -> None:
    answer = artefact("similar_items", items=["new", "", catalogue[0]], k=[2, 3, 1])
    assert answer["known"].tolist() == [False, False, True]
    assert answer["items"][:2].tolist() == [[b""] * 3] * 2
    assert not answer["scores"][:2].any()
    assert [bool(item) for item in answer["items"][2]] == [True, False, False]


def test_similar_items_end_with_the_catalogue(artefact, catalogue) -> None:
    answer = artefact("similar_items", items=catalogue[:1], k=[2**31 - 1])
    items = [item.decode() for item in answer["items"][0] if item]
    assert sorted(items) == sorted(catalogue[1:])


def test_classes_are_recommendations(artefact, catalogue) -> None:
    def example(history: list[str]) -> bytes:
        values = tf.train.BytesList(value=[item.encode() for item in history])
        feature = {"history": tf.train.Feature(bytes_list=values)}
        features = tf.train.Features(feature=feature)
        return tf.train.Example(features=features).SerializeToString()

    histories = [catalogue[:3], [], ["new", *catalogue[7:20]]]
    answer = artefact(
        "classify", inputs=[example(histories[0]), b"", example(histories[2])]
    )
    width = max(map(len, histories))
    rows = [row + [""] * (width - len(row)) for row in histories]
    expected = artefact(history=rows)
    assert set(answer) == {"classes", "scores"}
    np.testing.assert_array_equal(answer["classes"], expected["items"])
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-5)


def test_histories_and_k_are_all_that_a_client_needs(artefact, catalogue) -> None:
    """As clients of the first schema ask."""
    answer = artefact(history=[catalogue[:3]] * 2, k=[4, 4])
    assert answer["items"].shape == (2, 4)
    assert artefact(history=[catalogue[:3]])["items"].shape == (1, 10)
