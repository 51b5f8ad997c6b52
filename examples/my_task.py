"""A task of one's own, to be changed into yours: `scratchcard study examples/my_task.py`."""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn

import scratchcard as sc


class Classifier(nn.Module):
    """Any nn.Module will do; `scratchcard inspect examples/my_task.py` says what would be pruned."""

    def __init__(self, features: int = 30, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1))
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.body(x)
        return self.head(h + torch.relu(self.hidden(h)))


def my_data() -> sc.Data:
    """Tensors or NumPy arrays; validation is carved from the training data, test data chooses nothing."""
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=150, random_state=0, stratify=y)
    mean, std = x_train.mean(0), x_train.std(0)
    return sc.Data.from_tensors(
        "breast cancer", ((x_train - mean) / std, y_train), ((x_test - mean) / std, y_test), validation=80
    )


# `model` is a factory, called under a seed: fresh initialisations are one of the controls.
# A model you have trained already comes in as Task(..., start=trained_model): then nothing dense is trained again.
task = sc.Task("my task", model=Classifier, data=my_data(), loss="cross_entropy", metric="accuracy")
recipe = sc.Recipe(optimizer="adamw", lr=2e-3, weight_decay=1e-2, batch_size=32, steps=300, eval_every=20)
study = sc.Study(task, recipe, methods=[sc.IMP(rounds=8)], seeds=3, margin=0.01)

if __name__ == "__main__":
    rows = study.run()
    print(sc.judge(rows))
    sc.report(rows, "report.html")
