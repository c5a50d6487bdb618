"""A network of batch norm layers trained in NumPy: sound as it stands, and faulty with one piece replaced."""

from itertools import pairwise

import numpy as np

from normspec.backends.numpy import NumPy

STATE = ("running_mean", "running_var")


class Network(NumPy):
    """`train_network` by hand-written back-propagation; batch norm is the adapter's own."""

    def train_network(
        self, x, labels, *, depth, width, normalized, learning_rate, momentum, eps, batch, epochs, settling, seed
    ):
        self.momentum, self.eps = momentum, eps
        rng, sizes = np.random.default_rng(seed), (x.shape[1], *[width] * depth, int(labels.max()) + 1)
        self.layers = [self.new_layer(rng, *pair) for pair in pairwise(sizes)]
        for layer in self.layers[:-1] if self.asked_for(normalized) else ():
            layer.update(weight=np.ones(width, np.float32), shift=np.zeros(width, np.float32))
            layer.update(running_mean=np.zeros(width, np.float32), running_var=np.ones(width, np.float32))
        parts = [slice(i, i + batch) for i in range(0, len(x), batch)]
        losses = np.array([self.step(x[p], labels[p], learning_rate) for p in parts * epochs], np.float32)
        states = [self.state()]
        for _ in range(settling):
            outcomes = [self.forward(x[p], self.in_training) for p in parts]
        states.append(self.state())
        logits = np.concatenate([y for y, _ in outcomes])
        given = np.array([np.concatenate(h) for h in zip(*(given for _, given in outcomes), strict=True)])
        mean, var = (np.stack([state[i] for state in states]) for i in (0, 1))
        kept = depth if normalized else 0
        evaluated = self.forward(x, self.in_evaluation)[0]
        return losses, logits, given[:kept], mean[:, :kept], var[:, :kept], evaluated

    def asked_for(self, normalized):
        """Whether the network has batch norm."""
        return normalized

    def new_layer(self, rng, inputs, outputs):
        reach = inputs**-0.5
        return {
            "kernel": rng.uniform(-reach, reach, (inputs, outputs)).astype(np.float32),
            "bias": np.zeros(outputs, np.float32),
        }

    def in_training(self, h, layer):
        state = [layer[name] for name in STATE]
        arrays = (h, layer["weight"], layer["shift"], *state)
        y, *moved = self.train(*arrays, momentum=self.momentum, eps=self.eps)
        layer.update(zip(STATE, self.tracked(state, moved, h), strict=True))
        return y

    def tracked(self, before, after, h):
        """The state that a layer keeps, of that before and after a batch `h`."""
        return after

    def in_evaluation(self, h, layer):
        return self.evaluate(h, layer["weight"], layer["shift"], *self.used(layer), eps=self.eps)

    def used(self, layer):
        """The state that evaluation takes."""
        return [layer[name] for name in STATE]

    def forward(self, x, norm):
        """Logits, and what went into each hidden layer's norm or ReLU."""
        given = []
        for layer in self.layers[:-1]:
            given.append(x @ layer["kernel"] + layer["bias"])
            x = np.maximum(norm(given[-1], layer) if "weight" in layer else given[-1], 0)
        return x @ self.layers[-1]["kernel"] + self.layers[-1]["bias"], given

    def step(self, x, labels, rate):
        """One step down the gradient of the mean cross entropy; the loss before it."""
        values, made = [x], []
        for layer in self.layers[:-1]:
            h = values[-1] @ layer["kernel"] + layer["bias"]
            y = self.in_training(h, layer) if "weight" in layer else h
            made.append((h, y))
            values.append(np.maximum(y, 0))
        logits = values[-1] @ self.layers[-1]["kernel"] + self.layers[-1]["bias"]
        shifted = logits - logits.max(1, keepdims=True)
        chances = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
        loss = -np.log(chances[np.arange(len(x)), labels]).mean()
        d = (chances - np.eye(chances.shape[1], dtype=np.float32)[labels]) / np.float32(len(x))
        for number in reversed(range(len(self.layers))):
            layer, gradients = self.layers[number], {}
            if number < len(made):
                h, y = made[number]
                d = d * (y > 0)
                if "weight" in layer:
                    d, gradients["weight"], gradients["shift"] = self.train_gradients(
                        h, layer["weight"], layer["shift"], d, eps=self.eps
                    )
            gradients["kernel"], gradients["bias"] = values[number].T @ d, d.sum(0)
            d = d @ layer["kernel"].T
            for name, gradient in gradients.items():
                layer[name] = layer[name] - np.float32(rate) * gradient
        return loss

    def state(self):
        """Running means and variances, a layer each; zeros where there are none."""
        width = self.layers[0]["bias"].size
        return [
            np.array([layer.get(name, np.zeros(width, np.float32)) for layer in self.layers[:-1]]) for name in STATE
        ]
