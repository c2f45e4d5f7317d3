"""Passages as LlamaIndex nodes and back."""

from __future__ import annotations

from typing import Any, cast

from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from assistant.model import Passage

KEY = "passage"


def to_node(passage: Passage) -> NodeWithScore:
    """A node with the passage's text and score; the passage itself travels in the metadata.

    It is kept out of what LlamaIndex would show a model or an embedder.
    """
    metadata: dict[str, Any] = {KEY: passage, "title": passage.title, "url": passage.url}
    node = TextNode(
        id_=str(passage.chunk_id or f"timeline-{passage.document_id}"),
        text=passage.text,
        metadata=metadata,
        excluded_embed_metadata_keys=[KEY, "url"],
        excluded_llm_metadata_keys=[KEY, "url"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=str(passage.document_id))},
    )
    return NodeWithScore(node=node, score=passage.score)


def from_node(node: NodeWithScore) -> Passage:
    """The passage a node was made of. Raises `KeyError` for a node that `to_node` did not make."""
    return cast(Passage, node.node.metadata[KEY])
