"""
The Hugging Face Hub: base models come from it, and versions go to it.

In:  the id of a model, or a directory. Out: a directory in the local cache, or the address of what was sent.
Nothing else in the daemon speaks to the Hub: `__main__` forbids it to the libraries, and HF_HUB_OFFLINE=1 to this too.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from relevanced.daemon.errors import BadInput

# Weights, settings and tokenizers: no pickles, no code, and none of the other forms that a model may be kept in there.
_MODEL_FILES: Final = ("*.safetensors", "*.json", "*.txt", "*.model")
_WANTED: Final = (*_MODEL_FILES, "README.md")
_UNWANTED: Final = ("onnx/*", "openvino/*", "coreml/*", "original/*")
_PATIENCE: Final = 30.0  # seconds for an answer about a model


def keep_libraries_offline() -> None:
    """
    Let no library fetch anything by itself; read when huggingface_hub is imported, in this process and its children.

    TRANSFORMERS_OFFLINE is the older name of the same, and leaves HF_HUB_OFFLINE to the operator.
    """
    if "TRANSFORMERS_OFFLINE" in os.environ:
        os.environ.setdefault("HF_HUB_OFFLINE", os.environ["TRANSFORMERS_OFFLINE"])
    os.environ["TRANSFORMERS_OFFLINE"] = "1"


def fetch(hf_id: str, most_gb: float) -> Path:
    """
    Find a model in the local cache of the Hub, after loading down what is new of it or not there yet.

    Args:
        most_gb: GB of its files that are taken at most.
    Returns: its directory, whose name is that of the commit.
    Raises: BadInput for an id that the Hub does not know or does not give, a model that is too large, and one that is
        not there when the Hub cannot be asked.
    """
    if _forbidden():
        return _cached(hf_id, "HF_HUB_OFFLINE forbids to fetch it")
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        with _reaching_out():
            files = HfApi().model_info(hf_id, files_metadata=True, timeout=_PATIENCE).siblings or []
            gigabytes = sum(file.size or 0 for file in files if _is_wanted(file.rfilename)) / 1e9
            if gigabytes > most_gb:
                raise BadInput(
                    f"[model] base: {hf_id} has {gigabytes:.1f} GB, and max_download_gb allows {most_gb:g}; raise it."
                )
            return Path(snapshot_download(hf_id, allow_patterns=[*_WANTED], ignore_patterns=[*_UNWANTED]))
    except HFValidationError as error:
        raise BadInput(f"[model] base: {hf_id} is no id of the Hugging Face Hub: {_first_line(error)}") from error
    except GatedRepoError as error:
        remedy = f"do so at https://huggingface.co/{hf_id} and set HF_TOKEN"
        raise BadInput(f"[model] base: {hf_id} is given only to those who agree to its terms; {remedy}.") from error
    except RepositoryNotFoundError as error:
        remedy = "a private one needs HF_TOKEN, and a directory has to exist"
        raise BadInput(f"[model] base: the Hugging Face Hub knows no model {hf_id}; {remedy}.") from error
    except (HTTPError, OSError, RuntimeError) as error:
        return _cached(hf_id, f"the Hugging Face Hub does not give it ({_first_line(error)})")


def cached(hf_id: str) -> Path | None:
    """The directory of a model in the local cache, if it is there; its name is that of the commit."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hf_id, local_files_only=True, allow_patterns=[*_WANTED]))
    except (OSError, ValueError):  # not there, or not all of it; no id
        return None


def upload(directory: Path, hf_id: str, *, private: bool, message: str) -> str:
    """
    Make a directory the content of a model on the Hub; what a version before left there of model files goes.

    Args:
        private: of a repository that is new; one that is there stays as it is.
    Returns: the address of the commit.
    Raises: BadInput without a token, or when the Hub does not take it.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, get_token

    if _forbidden():
        raise BadInput(f"HF_HUB_OFFLINE forbids to send anything to {hf_id}; unset it, or export to a directory.")
    if get_token() is None:
        raise BadInput(f"There is no token to write to {hf_id} with; set HF_TOKEN, or run `hf auth login`.")
    try:
        with _reaching_out():
            api = HfApi()
            api.create_repo(hf_id, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=hf_id, folder_path=directory, commit_message=message, delete_patterns=[*_MODEL_FILES]
            )
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise BadInput(f"The Hugging Face Hub does not take {hf_id}: {_first_line(error)}") from error
    return str(commit.commit_url)


def _cached(hf_id: str, why: str) -> Path:
    directory = cached(hf_id)
    if directory is None:
        raise BadInput(f"[model] base: {hf_id} is not in the cache of this machine, and {why}.")
    return directory


def _is_wanted(name: str) -> bool:
    return any(fnmatch(name, one) for one in _WANTED) and not any(fnmatch(name, one) for one in _UNWANTED)


def _forbidden() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


@contextmanager
def _reaching_out() -> Iterator[None]:
    """Lift the ban on the libraries for a moment; they ask for this constant at each request."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
