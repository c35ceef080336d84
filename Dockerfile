# One image for every role: `docker run fulcrum run intake`, `... run agents`, `... db migrate`.
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app
COPY setup.cfg pyproject.toml requirements.lock README.md LICENSE ./
COPY fulcrum/__init__.py fulcrum/__init__.py

# The lock file constrains: the versions are its own, without the tools of tests and of the local stack.
# Installed before the sources are copied, so that a change of code reuses this layer.
RUN pip install --constraint requirements.lock --editable .

COPY schemas schemas
COPY fulcrum fulcrum

RUN useradd --system --uid 10001 --no-create-home fulcrum && install --directory --owner fulcrum /data
USER fulcrum

ENTRYPOINT ["fulcrum"]
CMD ["--help"]
