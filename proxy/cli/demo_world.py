"""The make-believe company of `openai-proxy demo-data`: its teams, people, and what they use which model for.

Plain values. The names are invented, the addresses lie in example.com, and the models are real, so that real prices apply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from proxy.core.quota import Scope, Unit, WindowKind

Kind = Literal["chat", "responses", "embeddings", "images", "transcription", "moderation"]
ENDPOINTS: dict[Kind, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "transcription": "/v1/audio/transcriptions",
    "moderation": "/v1/moderations",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One operation of a team. Tokens are medians; answers take `wait_ms` and then `speed` tokens a second."""

    operation: str | None
    kind: Kind
    model: str
    share: float
    """Of the team's requests."""
    input_tokens: int
    output_tokens: int
    cached: float = 0.0
    """The part of the input that the prompt cache usually holds."""
    reasoning: float = 0.0
    """The part of the output that is reasoning."""
    streamed: bool = False
    tier: str | None = "default"
    wait_ms: int = 400
    speed: int = 90
    replaced_by: str | None = None
    """The model that the team moves to in the course of the period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A group, its people (first name, last name, share of its work) and what they do."""

    name: str
    external_id: str
    plan: str
    requests_a_day: int
    hours: tuple[int, int]
    """Most of the work is done between these hours, UTC."""
    weekend: float
    """How much of a working day's work a day of the weekend sees."""
    people: tuple[tuple[str, str, float], ...]
    work: tuple[Work, ...]
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    end_users: int = 0
    """How many end users its applications name."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A quota: of a plan, a team, a person or everyone. `limit` as the admin API takes it."""

    unit: Unit
    window: WindowKind
    limit: str
    scope: Scope = "user"
    name: str = ""
    soft: bool = False


PLANS: dict[str, tuple[Limit, ...]] = {
    "Starter": (Limit("cost", "month", "10.00"), Limit("requests", "day", "400")),
    "Standard": (Limit("cost", "month", "8.00"), Limit("tokens", "day", "3000000")),
    "Research": (Limit("cost", "month", "60.00"),),
}
LIMITS = (
    Limit("cost", "month", "300.00", "everyone"),
    Limit("cost", "month", "32.00", "group", "Customer support"),
    Limit("cost", "month", "200.00", "group", "Data science"),
    Limit("cost", "month", "40.00", "group", "Marketing", soft=True),
    Limit("tokens", "month", "60000000", "user", "Mei Tanaka"),
)

SUPPORT = Team(
    name="Customer support",
    external_id="support",
    plan="Standard",
    requests_a_day=520,
    hours=(7, 20),
    weekend=0.45,
    people=(
        ("Ana", "Souza", 4.0), ("Liam", "O'Connor", 2.2), ("Priya", "Nair", 2.0), ("Jonas", "Weber", 1.6), ("Amara", "Okafor", 1.4),
        ("Sofia", "Rossi", 1.1), ("Hugo", "Lindqvist", 0.9), ("Chloé", "Martin", 0.7), ("Tomás", "Herrera", 0.5), ("Ivy", "Chen", 0.3),
    ),
    work=(
        Work(operation="rag_answer", kind="responses", model="gpt-5-mini-2025-08-07", share=5, input_tokens=11500, output_tokens=720, cached=0.62, reasoning=0.35, streamed=True, wait_ms=900, speed=110),
        Work(operation="classify_ticket", kind="chat", model="gpt-4.1-nano-2025-04-14", share=4, input_tokens=620, output_tokens=18, cached=0.2, wait_ms=260, speed=160),
        Work(operation="translate", kind="chat", model="gpt-4o-mini-2024-07-18", share=2, input_tokens=480, output_tokens=420, streamed=True, wait_ms=330, speed=95, replaced_by="gpt-5-nano-2025-08-07"),
        Work(operation="embed_documents", kind="embeddings", model="text-embedding-3-small", share=1.5, input_tokens=2100, output_tokens=0, wait_ms=130),
        Work(operation="check_message", kind="moderation", model="omni-moderation-latest", share=1, input_tokens=0, output_tokens=0, wait_ms=180),
    ),
    tags={"channel": ("chat", "email", "phone"), "language": ("en", "pt", "de", "es")},
    end_users=400,
)  # fmt: skip

SCIENCE = Team(
    name="Data science",
    external_id="data-science",
    plan="Research",
    requests_a_day=240,
    hours=(8, 19),
    weekend=0.2,
    people=(
        ("Mei", "Tanaka", 3.0), ("Omar", "Haddad", 2.4), ("Elena", "Petrova", 1.8), ("Noah", "Fischer", 1.2), ("Grace", "Mensah", 0.9),
        ("Arjun", "Patel", 0.8), ("Zofia", "Nowak", 0.4),
    ),
    work=(
        Work(operation="extract_entities", kind="chat", model="gpt-4.1-mini-2025-04-14", share=5, input_tokens=7400, output_tokens=640, cached=0.35, tier="flex", wait_ms=700, speed=80, replaced_by="gpt-5-mini-2025-08-07"),
        Work(operation="evaluate", kind="responses", model="gpt-5-2025-08-07", share=1.6, input_tokens=9500, output_tokens=3600, cached=0.25, reasoning=0.6, wait_ms=1800, speed=70),
        Work(operation="agent_run", kind="responses", model="gpt-5-2025-08-07", share=1.4, input_tokens=41000, output_tokens=4200, cached=0.78, reasoning=0.5, streamed=True, wait_ms=2100, speed=75),
        Work(operation=None, kind="chat", model="o4-mini-2025-04-16", share=0.7, input_tokens=900, output_tokens=1300, reasoning=0.7, streamed=True, wait_ms=1500, speed=100),
        Work(operation="experiments", kind="chat", model="llama-4-scout-internal", share=0.2, input_tokens=1100, output_tokens=300, wait_ms=350, speed=60),
    ),
    tags={"project": ("churn", "forecast", "atlas")},
)  # fmt: skip

SEARCH = Team(
    name="Product search",
    external_id="search",
    plan="Standard",
    requests_a_day=430,
    hours=(5, 23),
    weekend=1.15,
    people=(("Lucas", "Almeida", 3.0), ("Freya", "Hansen", 1.5), ("Daniel", "Kim", 1.0), ("Yara", "Costa", 0.5)),
    work=(
        Work(operation="embed_query", kind="embeddings", model="text-embedding-3-small", share=6, input_tokens=14, output_tokens=0, wait_ms=90),
        Work(operation="rewrite_query", kind="chat", model="gpt-4.1-nano-2025-04-14", share=3, input_tokens=340, output_tokens=32, cached=0.5, wait_ms=240, speed=170),
        Work(operation="rerank", kind="chat", model="gpt-5-nano-2025-08-07", share=2, input_tokens=1900, output_tokens=160, cached=0.4, reasoning=0.55, wait_ms=420, speed=180),
    ),
    tags={"surface": ("web", "app")},
    end_users=900,
)  # fmt: skip

MARKETING = Team(
    name="Marketing",
    external_id="marketing",
    plan="Starter",
    requests_a_day=85,
    hours=(8, 18),
    weekend=0.08,
    people=(
        ("Isabella", "Moretti", 2.0), ("Felix", "Braun", 1.4), ("Aisha", "Rahman", 1.1), ("Oliver", "Smith", 0.8), ("Nina", "Kovač", 0.5),
    ),
    work=(
        Work(operation="draft_copy", kind="chat", model="gpt-4.1-2025-04-14", share=4, input_tokens=3200, output_tokens=1400, streamed=True, wait_ms=480, speed=85, replaced_by="gpt-5-2025-08-07"),
        Work(operation="summarise_call", kind="chat", model="gpt-4o-mini-2024-07-18", share=2, input_tokens=6100, output_tokens=310, wait_ms=420, speed=95),
        Work(operation="transcribe_call", kind="transcription", model="gpt-4o-mini-transcribe", share=1, input_tokens=2400, output_tokens=520, wait_ms=2400, speed=220),
        Work(operation="campaign_image", kind="images", model="gpt-image-1", share=0.5, input_tokens=90, output_tokens=1056, wait_ms=14000, speed=1000),
    ),
    tags={"campaign": ("spring", "launch", "newsletter")},
)  # fmt: skip

TEAMS = (SUPPORT, SCIENCE, SEARCH, MARKETING)
LEFT = ("Zofia Nowak",)
"""Deactivated: their usage stays."""
OPERATORS = ("Ana Souza", "Mei Tanaka", "Lucas Almeida")
"""Have a second key, for an application."""
