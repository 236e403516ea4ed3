# One image for the worker, the producer, Flower and the audit. The command decides what a container does.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
ENV PIP_CACHE_DIR=/var/cache/pip PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/baozi
# The packages change rarely, so their layer comes first. Each package is checked against its hash.
COPY requirements.lock requirements-dev.lock ./
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/baozi/bin/pip install --require-hashes -r requirements.lock
# The build tool is also checked against its hash. It has its own virtual environment, which is not copied to the image.
RUN --mount=type=cache,target=/var/cache/pip \
    awk '/^[^ ]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } wanted' \
        requirements-dev.lock > build.lock \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r build.lock
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /opt/baozi/bin/pip install --no-deps --no-index /wheel/*.whl \
 # The wheel does not contain the course's app and its tools. They are copied beside the library, as in the repository.
 && beside=$(/opt/baozi/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && cp -r tasks producers local_mp side_by_side "$beside" \
 && /opt/baozi/bin/python3 -m compileall -q "$beside/tasks" "$beside/producers" "$beside/local_mp" "$beside/side_by_side" \
 # In a clone made with umask 077 only the owner may read them.
 && chmod -R a+rX "$beside" \
 # Nothing in the image needs pip at run time.
 && /opt/baozi/bin/pip uninstall --yes --quiet pip

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="baozi" \
      org.opencontainers.image.description="Producer and consumer on Celery and RabbitMQ, with a ledger that proves that nothing was lost." \
      org.opencontainers.image.licenses="MIT"
# The user has a number, so that an orchestrator that forbids root can check it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/baozi --shell /usr/sbin/nologin baozi \
 && install --directory --owner 10001 --group 10001 --mode 0750 /var/lib/baozi
COPY --from=build /opt/baozi /opt/baozi
COPY --chmod=0755 deploy/image/ /usr/local/bin/
# `docker stop` sends SIGTERM, which starts a worker's soft shutdown: it finishes what it has started and returns the rest.
ENV PATH=/opt/baozi/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    REMAP_SIGTERM=SIGQUIT \
    BAOZI_HOME=/var/lib/baozi
USER 10001:10001
WORKDIR /var/lib/baozi
VOLUME /var/lib/baozi
CMD ["baozi", "--help"]
