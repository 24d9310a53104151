# tools.serve on a CPU. The model is not in the image but mounted:
#   docker build -t cleantune .
#   docker run -p 8000:8000 -v ./models:/app/models:ro cleantune
FROM python:3.11-slim
WORKDIR /app
COPY requirements.lock .
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.lock
COPY cleantune cleantune
COPY tools tools
RUN useradd --no-create-home server
USER server
EXPOSE 8000
CMD ["python", "-m", "tools.serve", "--host", "0.0.0.0"]
