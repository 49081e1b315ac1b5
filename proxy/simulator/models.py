"""The models that the simulator knows, under the names that OpenAI gives them, and the snapshots that serve them."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.simulator.problems import Problem


@dataclass(frozen=True, slots=True)
class Model:
    """One model: the name asked for and the dated one that answers carry."""

    id: str
    served: str
    created: int
    kind: str = "chat"
    """"chat", "legacy" (completions) or "embedding"."""
    reasoning_tokens: int = 0
    """What it spends on thinking before each answer."""
    dimensions: int = 0


_MODELS = (
    Model("gpt-4o", "gpt-4o-2024-08-06", 1715367049),
    Model("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 1721172741),
    Model("gpt-4.1", "gpt-4.1-2025-04-14", 1744316542),
    Model("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", 1744318173),
    Model("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14", 1744321707),
    Model("gpt-5", "gpt-5-2025-08-07", 1754425777, reasoning_tokens=128),
    Model("gpt-5-mini", "gpt-5-mini-2025-08-07", 1754425928, reasoning_tokens=64),
    Model("gpt-5-nano", "gpt-5-nano-2025-08-07", 1754426384, reasoning_tokens=64),
    Model("o3", "o3-2025-04-16", 1744225308, reasoning_tokens=192),
    Model("o4-mini", "o4-mini-2025-04-16", 1744225351, reasoning_tokens=128),
    Model("gpt-3.5-turbo", "gpt-3.5-turbo-0125", 1677610602),
    Model("gpt-3.5-turbo-instruct", "gpt-3.5-turbo-instruct:20230824-v2", 1692901427, kind="legacy"),
    Model("text-embedding-3-small", "text-embedding-3-small", 1705948997, kind="embedding", dimensions=1536),
    Model("text-embedding-3-large", "text-embedding-3-large", 1705953180, kind="embedding", dimensions=3072),
    Model("text-embedding-ada-002", "text-embedding-ada-002", 1671217299, kind="embedding", dimensions=1536),
)
MODELS = {model.id: model for model in _MODELS} | {model.served: model for model in _MODELS}


def find(name: object, kind: str = "chat") -> Model:
    """The model. Raises Problem as OpenAI answers: none named, unknown, or of another kind."""
    if not isinstance(name, str) or not name:
        raise Problem(400, "you must provide a model parameter")
    model = MODELS.get(name)
    if model is None:
        raise Problem(
            404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found"
        )
    if model.kind != kind:
        wanted = {"chat": "a chat model", "legacy": "a completions model", "embedding": "an embedding model"}
        raise Problem(404, f"The model `{name}` is not {wanted[kind]}.", param="model")
    return model


def described(model: Model, name: str) -> dict[str, object]:
    """A model as GET /v1/models/{model} shows it."""
    return {"id": name, "object": "model", "created": model.created, "owned_by": "system"}
