"""The pipeline, one module a stage; dvc.yaml runs each as `python -m stages.NAME`."""
