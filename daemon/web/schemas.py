"""What goes over the wire: the bodies of the API, with the examples that /docs shows."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from relevanced.daemon.records import SearchAnswer, SearchRequest, VersionState
from relevanced.daemon.search import MAX_K, MAX_QUERY_CHARACTERS

Query = Annotated[
    str,
    Field(description=f"The words as typed, {MAX_QUERY_CHARACTERS:,} characters at most.", examples=["out of breath"]),
]
K = Annotated[int, Field(description=f"How many documents to return, 1 to {MAX_K}.", examples=[10])]
Name = Annotated[str, Field(max_length=100, pattern=r"^[^\x00]*$")]  # what UBI and Postgres take
Device = Annotated[
    Name | None,
    Field(description="The kind of device, for its pages are looked at in another way.", examples=["mobile"]),
]


class SearchBody(BaseModel):
    """One search. `client_id` and `session_id` say who asks; without them, each search is a person of its own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"query": "out of breath", "k": 10, "client_id": "c-7", "session_id": "s-81"}]},
    )

    query: Query
    k: K = 10
    client_id: Name | None = None
    session_id: Name | None = None
    application: Name | None = None
    device: Device = None

    def request(self) -> SearchRequest:
        """The search that the body asks for."""
        return SearchRequest(self.query, self.k, self.client_id, self.session_id, self.application, device=self.device)


class FoundDocument(BaseModel):
    """
    One document of an answer; `position` counts from 1.

    `score` is the inner product of unit vectors, of the model version `version`: in a trial, two versions have a share
    in one answer, and scores of two versions cannot be compared. `calibrated_score` is the same on the scale of the
    base version, on which as many documents pass a threshold whatever is live; null where no gate has measured it.
    """

    model_config = ConfigDict(from_attributes=True)

    position: int
    document_id: str
    score: float
    calibrated_score: float | None
    title: str
    text: str
    version: int = Field(validation_alias="version_id")


class SearchResult(BaseModel):
    """An answer. Send `query_id` along with the clicks on it; `version` is the model version that is live."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query_id": "7f0c1b1e-4f0e-4a53-9d2e-0a8f5c1f9b6a",
                    "version": 2,
                    "hits": [
                        {
                            "position": 1,
                            "document_id": "HP:0002094",
                            "score": 0.71,
                            "calibrated_score": 0.58,
                            "title": "Dyspnea",
                            "text": "Difficult or labored breathing.",
                            "version": 2,
                        }
                    ],
                }
            ]
        }
    )

    query_id: str
    version: int
    hits: list[FoundDocument]

    @classmethod
    def of(cls, answer: SearchAnswer) -> "SearchResult":
        """The answer as it goes over the wire."""
        hits = [FoundDocument.model_validate(hit) for hit in answer.hits]
        return cls(query_id=answer.query_id, version=answer.version_id, hits=hits)


class Accepted(BaseModel):
    """How many records are now safe."""

    accepted: int


class ModelVersion(BaseModel):
    """One model version; `manifest` says how it was made."""

    version: int
    state: VersionState
    created_at: datetime
    manifest: Mapping[str, Any]


class Versions(BaseModel):
    """Every version, what is live and what `relevanced rollback` returns to."""

    live: int | None
    previous: int | None
    versions: list[ModelVersion]


class Alive(BaseModel):
    """
    The process answers.

    `lost_query_records` counts searches since its start that could not be logged; `halted_consumers` says for each
    source that is read no more why that is.
    """

    lost_query_records: int
    halted_consumers: dict[str, str]


class Ready(BaseModel):
    """The version that is live, its model loaded."""

    version: int


class Problem(BaseModel):
    """
    A problem document (RFC 9457); `errors` says which field or record, where there are several.

    Of records, `accepted` are safe all the same: a body that is sent again whole counts once.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] = []
    accepted: int | None = None
