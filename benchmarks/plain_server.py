"""A plain text-classification server, for comparison: transformers' pipeline behind FastAPI.

python -m benchmarks.plain_server --port 8001     (benchmarks.serving starts it)
"""

import argparse
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from cleantune.data import tables


class Query(BaseModel):
    """Texts to classify."""

    texts: list[str]


def main() -> None:
    """Load the model, then answer until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, default=tables.FINETUNED)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    classify = pipeline("text-classification", str(options.model), top_k=None, truncation=True)
    app = FastAPI()

    @app.post("/predict")
    def predict(query: Query) -> dict[str, Any]:
        return {"predictions": classify(query.texts)}

    @app.get("/health")
    def health() -> str:
        return "ok"

    uvicorn.run(app, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
