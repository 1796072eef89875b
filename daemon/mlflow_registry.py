"""
MLflow's model registry: versions as versions of a registered model, with aliases for what serves.

In:  a version, and the address of an MLflow server or of its database. Out: its files there, and the aliases champion
(live), challenger (on trial, waiting for approval, or else the newest candidate) and previous.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from relevanced.daemon import history
from relevanced.daemon.approval import waiting
from relevanced.daemon.errors import BadInput
from relevanced.daemon.records import Outcome, Version
from relevanced.daemon.stages import Stages
from relevanced.daemon.version_files import write_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FINGERPRINT: Final = "relevanced.fingerprint"  # of the model; version numbers of two state directories may be the same
_VERSION: Final = "relevanced.version"
_ALIASES: Final = ("champion", "challenger", "previous")
_FOLDER: Final = "model"
_DATA: Final = "model.sentence_transformer"  # where MLflow's flavour of sentence-transformers looks for a model
# Read when mlflow is imported. It would report to its makers, and try for minutes to reach a server that is away.
_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def export_to_mlflow(stages: Stages, version: Version, uri: str, model: str, licence: str | None) -> Outcome:
    """
    Log a version into the registry unless it is there, and point the aliases at what is live, tried and previous now.

    Args:
        uri: as MLFLOW_TRACKING_URI, such as http://host:5000 or sqlite:///mlflow.db.
        model: the name of the registered model.
    Raises: BadInput when mlflow is not installed, or the registry does not answer or does not take it.
    """
    with _speaking(uri) as client:
        known = _known(client, model)
        new = version.fingerprint not in known
        if new:
            known[version.fingerprint] = _log(client, stages, version, uri, model, licence)
        aliases = _point(client, stages, model, known)
    number = known[version.fingerprint]
    did = "Logged" if new else "Found"
    said = ", ".join(f"{alias} is {found}" for alias, found in aliases.items()) or "no alias is set"
    sentence = f"{did} version {version.version_id} in MLflow as version {number} of {model}; {said}."
    numbers = {"version": version.version_id, "mlflow_version": number, "new": new, "aliases": aliases}
    return Outcome(sentence, {**numbers, "fingerprint": version.fingerprint, "to": uri})


@contextmanager
def _speaking(uri: str) -> Iterator["MlflowClient"]:
    """
    Give a client; what goes wrong while it speaks is said in a sentence.

    Raises: BadInput.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise BadInput("MLflow is not installed here; `pip install 'relevanced[mlflow]'` brings it.") from None
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except ImportError as error:  # of SQLAlchemy, when the address is a database's
        raise BadInput(f"MLflow cannot open {uri}: {error}; `pip install sqlalchemy alembic` brings it.") from error
    except (MlflowException, OSError) as error:
        raise BadInput(f"MLflow at {uri} does not take it: {str(error).splitlines()[0].rstrip('.')}.") from error


def _known(client: "MlflowClient", model: str) -> dict[str, str]:
    """What the registered model has: fingerprint -> number there, the newest of each."""
    found: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", page_token=token)
        for one in page:
            if (fingerprint := one.tags.get(_FINGERPRINT)) and int(one.version) > int(found.get(fingerprint, 0)):
                found[fingerprint] = str(one.version)
        token = page.token
        if not token:
            return found


def _log(client: "MlflowClient", stages: Stages, version: Version, uri: str, model: str, licence: str | None) -> str:
    """Log the files in a run of their own, register them, and give their number."""
    from mlflow.models import Model

    number = version.version_id
    tags = {_VERSION: str(number), _FINGERPRINT: version.fingerprint}
    run = client.create_run(_experiment(client, uri, model), run_name=f"version {number}", tags=tags)
    for name, value in _figures(version.manifest).items():
        client.log_metric(run.info.run_id, name, value)
    with TemporaryDirectory(prefix="relevanced-export-") as folder:
        directory = Path(folder) / _FOLDER
        directory.mkdir()
        write_version(stages, version, directory / _DATA, model, licence)
        described = Model(artifact_path=_FOLDER, run_id=run.info.run_id)
        described.add_flavor("sentence_transformers", sentence_transformers_version=installed("sentence-transformers"))
        described.save(str(directory / "MLmodel"))
        client.log_artifacts(run.info.run_id, str(directory), _FOLDER)
    client.set_terminated(run.info.run_id)
    source = f"{run.info.artifact_uri}/{_FOLDER}"
    return str(client.create_model_version(model, source=source, run_id=run.info.run_id, tags=tags).version)


def _experiment(client: "MlflowClient", uri: str, model: str) -> str:
    """The experiment and the registered model of this name, made when they are not there."""
    if not client.search_registered_models(f"name = '{model}'"):
        client.create_registered_model(model)
    found = client.get_experiment_by_name(model)
    if found is not None:
        return str(found.experiment_id)
    # Beside a database that is a file: MLflow would put the files into the directory that the command is given in.
    database = Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    place = (database.resolve().parent / "mlartifacts" / model).as_uri() if database else None
    return str(client.create_experiment(model, artifact_location=place))


def _figures(manifest: Mapping[str, Any]) -> dict[str, float]:
    """What gate and training measured, under names that MLflow takes."""
    found = {**manifest.get("training", {}), **manifest.get("metrics", {})}
    numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
    return {name.replace("@", "_at_"): float(value) for name, value in numbers.items()}


def _point(client: "MlflowClient", stages: Stages, model: str, known: Mapping[str, str]) -> dict[str, str]:
    """
    Point each alias at the version that has its part now, as far as it is in the registry, and take it away otherwise.

    Returns: alias -> number in the registry.
    """
    fingerprints = {version.version_id: version.fingerprint for version in history.versions(stages.database)}
    wanted = {
        alias: known[fingerprints[number]]
        for alias, number in _parts(stages).items()
        if number is not None and fingerprints.get(number) in known
    }
    pointing = client.get_registered_model(model).aliases
    for alias in _ALIASES:
        if alias in wanted:
            if str(pointing.get(alias)) != wanted[alias]:
                client.set_registered_model_alias(model, alias, wanted[alias])
        elif alias in pointing:
            client.delete_registered_model_alias(model, alias)
    return wanted


def _parts(stages: Stages) -> dict[str, int | None]:
    """Which version has which part."""
    serving = stages.promotion.serving()
    live, previous = serving.live_version_id, serving.previous_version_id
    asked = waiting(stages.database)
    newer = [
        version.version_id
        for version in history.versions(stages.database)
        if version.state not in ("rejected", "retired")
        and version.version_id > (live or 0)
        and version.version_id != previous
    ]
    on_trial = serving.other_version_id if serving.trial_purpose == "promotion" else None
    challenger = on_trial or (asked["version_id"] if asked else None) or (newer[-1] if newer else None)
    return {"champion": live, "challenger": challenger if challenger != live else None, "previous": previous}
