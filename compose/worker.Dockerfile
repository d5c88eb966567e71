# Producers and consumers in one image: the job that a container gets says which it is.
# The build context is the folder that holds bench/, producers/, consumer/ and compose/.
FROM python:3.13-slim
COPY compose/worker-requirements.txt /requirements.txt
RUN pip install --no-cache-dir -r /requirements.txt
COPY bench/__init__.py bench/attribution.py bench/histograms.py bench/job.py bench/meter.py bench/padding.py bench/pairing.py bench/quota.py bench/records.py bench/schedule.py bench/shapes.py bench/statement.py bench/wire.py bench/wire_grammar.py bench/worker.py /worker/bench/
COPY producers /worker/producers
COPY consumer /worker/consumer
# Its root file system is read-only at run time, so what Python would cache is made here.
RUN python -m compileall -q /worker
WORKDIR /worker
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["producers"]
