"""Which package reads the addresses of a scheme, and whether it is installed."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["missing_driver"]

_URL_EXTRA = "'tensorwire[url]'"
_IMPORTED_LATE = {"hdfs": "pyarrow", "arrow_hdfs": "pyarrow"}  # by drivers that can be imported without
_PACKAGES = {"aiohttp": _URL_EXTRA, "smbclient": "smbprotocol", "libarchive": "libarchive-c"}
_COMMON = "file, http, https, s3, gs, az, hdfs, sftp"


def missing_driver(url: str) -> str:
    """Why no address of this kind can be read, and what to install; '' when it can be."""
    try:
        from fsspec.registry import get_filesystem_class
    except ImportError:
        return f"models from URLs need fsspec; run: pip install {_URL_EXTRA}"
    for part in url.split("::"):
        scheme = part.partition("://")[0]
        try:
            get_filesystem_class(scheme)
        except ValueError:
            return f"nothing is known of {scheme}:// addresses; fsspec reads {_COMMON} and more"
        except ImportError as error:
            cause = error.__cause__
            if not isinstance(cause, ModuleNotFoundError):
                return f"the driver of {scheme}:// addresses cannot be imported: {cause or error}"
            return _needed(scheme, (cause.name or scheme).partition(".")[0])
        late = _IMPORTED_LATE.get(scheme)
        if late is not None and find_spec(late) is None:
            return _needed(scheme, late)
    return ""


def _needed(scheme: str, module: str) -> str:
    return f"{scheme}:// addresses need {module}; run: pip install {_PACKAGES.get(module, module)}"
