# The image of Trailseal: a Python, the locked requirements and the agent; no shell, no package tools (docs/container.md).
#
#   docker build --tag trailseal .              or: scripts/image.sh
#
# Build arguments:
#   PYTHON_IMAGE   another base, for example a mirror's copy. It must have Debian's dpkg and, like the official image, pip.
#   REQUIREMENTS   runtime (default), or attest: with what `doctor` and `verify s3://…` need to attest a bucket's locks
#   VERSION, REVISION, SOURCE_DATE_EPOCH   for the labels, and the time that every file gets; scripts/image.sh sets them
# Secret pip.conf (optional): the pip configuration to build with, where PyPI is reached through a mirror.
#
# python:3.12-slim, all platforms (3.12.14 on Debian trixie, published in September 2026). To renew it, ask for the tag's digest of today:
#   docker buildx imagetools inspect python:3.12-slim --format '{{.Manifest.Digest}}'
ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea

FROM ${PYTHON_IMAGE} AS build
ARG REQUIREMENTS=runtime
ARG SOURCE_DATE_EPOCH=1580601600
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# The slow step first, so that a change of the agent repeats only what follows it.
COPY requirements/ requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/trailseal \
 && python3 -m pip --python /opt/trailseal/bin/python3 install --no-compile --only-binary :all: \
      --require-hashes --requirement "requirements/${REQUIREMENTS}.txt"
COPY pyproject.toml README.md LICENSE .gitignore ./
COPY scripts/wheel.sh scripts/
COPY deploy/container/rootfs.py deploy/container/
COPY agent/ agent/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    PYTHON=python3 scripts/wheel.sh --once /wheel \
 && python3 -m pip --python /opt/trailseal/bin/python3 install --no-compile --no-index --no-deps /wheel/*.whl
RUN python3 deploy/container/rootfs.py --environment /opt/trailseal --state /state/trailseal --user 65532 /rootfs

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH=1580601600
LABEL org.opencontainers.image.title="Trailseal" \
      org.opencontainers.image.description="Ships a service's audit events, sealed and hash-chained, to a store nobody can rewrite" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="The Trailseal authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs/ /
COPY --from=build --chown=65532:65532 /state/ /var/lib/
# PYTHONDONTWRITEBYTECODE: everything is compiled, and the root may be read-only. SSL_CERT_FILE: the one bundle of authorities there is.
ENV PATH=/opt/trailseal/bin:/usr/local/bin:/usr/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# By number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
WORKDIR /var/lib/trailseal
VOLUME ["/var/lib/trailseal"]
# An orderly end: what was read is sealed and shipped within `shutdown_grace` (25 s by default; give the engine more before it kills).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=15s --retries=3 \
    CMD ["trailseal", "status", "--config", "/etc/trailseal/trailseal.yaml"]
ENTRYPOINT ["trailseal"]
CMD ["run", "--config", "/etc/trailseal/trailseal.yaml"]
