"""One training round of every method as an expert writes it in plain PyTorch for that paper alone.

Nothing is computed twice, simultaneous moves share one backward pass where one can serve them, no
gradient is taken that nobody needs (`backward(inputs=...)`), and nothing is checked or logged.
Every round does what the method's own round does, to the same weights, and knows that the private
label is `Male` and the useful one `Smiling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, softplus

from veil.augmentation import flipped, jittered
from veil.data.batch import Batch
from veil.losses import entropy, scale_gradient
from veil.methods.aia import AIA, privacy_term
from veil.methods.answer_only import AnswerOnly
from veil.methods.deepobfuscator import DeepObfuscator, dissimilarity
from veil.methods.disco import DISCO
from veil.methods.maxent import MaxEnt
from veil.methods.narl import NARL
from veil.methods.pcgan import PCGAN, distortion_penalty
from veil.methods.stargan import StarGAN
from veil.methods.task_oriented import TaskOriented, feature_distances

PRIVATE, USEFUL = "Male", "Smiling"
Adams = Mapping[str, torch.optim.Adam]
Cast = Callable[[], torch.autocast]
BareRound = Callable[[Any, Adams, Batch, torch.Generator, Cast], None]


def gradients(loss: Tensor, *adams: torch.optim.Adam, keep_graph: bool = False) -> None:
    """The gradients of those who minimise the loss, and of nobody else."""
    for adam in adams:
        adam.zero_grad()
    movers = [p for adam in adams for group in adam.param_groups for p in group["params"]]
    loss.backward(inputs=movers, retain_graph=keep_graph)  # type: ignore[no-untyped-call]


def descend(loss: Tensor, *adams: torch.optim.Adam) -> None:
    """One step of those who minimise the loss."""
    gradients(loss, *adams)
    for adam in adams:
        adam.step()


def simultaneously(
    loss: Tensor, mover: torch.optim.Adam, other_loss: Tensor, other: torch.optim.Adam
) -> None:
    """One step each of two who minimise different losses of one forward pass."""
    gradients(loss, mover, keep_graph=True)
    gradients(other_loss, other)
    mover.step()
    other.step()


def aia(m: AIA, adam: Adams, batch: Batch, _rng: torch.Generator, cast: Cast) -> None:
    c, adversary, task = m.config, m.adversaries[0], m.tasks[0]
    s, y = batch[PRIVATE], batch[USEFUL]
    with cast():
        g = m.obfuscator.encode(batch.x)
        inference = cross_entropy(adversary(g.detach()).float(), s)
    descend(inference, adam["adversary"])
    with cast():
        # The task minimises its loss unweighted, the auto-encoder alpha times it.
        utility = cross_entropy(task(scale_gradient(g, c.alpha)).float(), y)
        privacy = privacy_term(adversary(g).float(), s, c.privacy)
        loss = m.reconstruction_loss(g, batch) + utility + c.beta * privacy
    descend(loss, adam["autoencoder"], adam["task"])


def answer_only(
    m: AnswerOnly, adam: Adams, batch: Batch, _rng: torch.Generator, cast: Cast
) -> None:
    with cast():
        loss = cross_entropy(m.obfuscator.classifiers[0](batch.x).float(), batch[USEFUL])
    descend(loss, adam["task"])


def narl(m: NARL, adam: Adams, batch: Batch, rng: torch.Generator, cast: Cast) -> None:
    c = m.config
    with cast():
        x = jittered(flipped(batch.x, rng), rng, c.jitter)
        features = m.obfuscator.encoder(x).float()
        z = features + c.sigma * torch.randn(features.shape, generator=rng)
        utility = cross_entropy(m.tasks[0](z).float(), batch[USEFUL])
        inference = cross_entropy(m.adversaries[0](scale_gradient(z, -c.w)).float(), batch[PRIVATE])
        loss = utility + inference
    descend(loss, *adam.values())


def maxent(m: MaxEnt, adam: Adams, batch: Batch, _rng: torch.Generator, cast: Cast) -> None:
    alpha, adversary, task = m.config.alpha, m.adversaries[0], m.tasks[0]
    with cast():
        z = m.obfuscator.encoder(batch.x)
        inference = cross_entropy(adversary(z.detach()).float(), batch[PRIVATE])
    descend(inference, adam["adversary"])
    with cast():
        utility = cross_entropy(task(z).float(), batch[USEFUL])
        loss = (1 - alpha) * utility - alpha * entropy(adversary(z).float())
    descend(loss, adam["encoder"], adam["task"])


def disco(m: DISCO, adam: Adams, batch: Batch, _rng: torch.Generator, cast: Cast) -> None:
    c, adversary, task = m.config, m.adversaries[0], m.tasks[0]
    with cast():
        z = m.obfuscator.encoder(batch.x)
        scores = m.obfuscator.pruner(z.detach()).float()
        values, kept = scores.topk(scores.shape[1] - m.obfuscator.pruned, dim=1)
        soft = ((scores - values[:, -1:]) / c.temperature).sigmoid()
        hard = torch.zeros_like(scores).scatter(1, kept, 1.0)
        mask = (soft + (hard - soft).detach())[:, :, None, None]
        # To the pruner (1 - a) of the task's gradient goes back, and -a of the adversary's.
        released = z * scale_gradient(mask, 1 - c.alpha)
        inference = cross_entropy(adversary(released.detach()).float(), batch[PRIVATE])
    descend(inference, adam["adversary"])
    with cast():
        attacked = z.detach() * scale_gradient(mask, -c.alpha)
        loss = cross_entropy(task(released).float(), batch[USEFUL])
        loss = loss + cross_entropy(adversary(attacked).float(), batch[PRIVATE])
    descend(loss, adam["encoder"], adam["pruner"], adam["task"])


def deepobfuscator(
    m: DeepObfuscator, adam: Adams, batch: Batch, rng: torch.Generator, cast: Cast
) -> None:
    weight, encoder, rebuild = m.config.weight, m.obfuscator.blocks, m.reconstructor
    noisy, rebuilt, guessed, attacked, used = batch.split(5)

    m.task.eval()
    with cast():
        z = encoder(noisy.x).float()
        noise = torch.rand(noisy.x.shape, generator=rng)
        loss = cross_entropy(m.task(z)[USEFUL], noisy[USEFUL]) + weight * dissimilarity(
            rebuild(z), noise
        )
    descend(loss, adam["obfuscator"])
    with cast():
        z = encoder(rebuilt.x).float()
        utility = cross_entropy(m.task(z)[USEFUL], rebuilt[USEFUL])
        loss = utility - weight * dissimilarity(rebuild(z), rebuilt.x)
    descend(loss, adam["obfuscator"])
    with cast():
        z = encoder(guessed.x).float()
        utility = cross_entropy(m.task(z)[USEFUL], guessed[USEFUL])
        loss = utility - weight * cross_entropy(m.adversary(z)[PRIVATE], guessed[PRIVATE])
    descend(loss, adam["obfuscator"])
    m.task.train()
    encoder.eval()
    with cast():
        with torch.no_grad():
            z = encoder(attacked.x).float()
        inference = cross_entropy(m.adversary(z)[PRIVATE], attacked[PRIVATE])
        loss = dissimilarity(rebuild(z), attacked.x) + inference
    descend(loss, adam["reconstructor"], adam["adversary"])
    with cast():
        with torch.no_grad():
            z = encoder(used.x).float()
        loss = cross_entropy(m.task(z)[USEFUL], used[USEFUL])
    descend(loss, adam["task"])
    encoder.train()


def task_oriented(
    m: TaskOriented, adam: Adams, batch: Batch, _rng: torch.Generator, cast: Cast
) -> None:
    c, encoder = m.config, m.obfuscator.layers
    own, public = batch.split(2)

    encoder.eval()
    with torch.no_grad(), cast():
        z = encoder(public.x).float()
    encoder.train()
    with cast():
        x_hat = m.decoder(z).float().sigmoid()
        real, redrawn = m.critic(public.x).float(), m.critic(x_hat).float()
        judging = softplus(-real).mean() + softplus(redrawn).mean()
        perception = feature_distances(m.seen(x_hat), m.seen(public.x)).mean()
        inverting = mse_loss(x_hat, public.x) + c.mu2 * perception
        inverting = inverting + c.mu1 * softplus(-redrawn).mean()
    simultaneously(judging, adam["critic"], inverting, adam["adversary"])
    with cast():
        z = encoder(own.x).float()
        x_hat = m.decoder(z).float().sigmoid()
        seen = m.seen(own.x)
        limit = c.hinge * feature_distances(seen, [stage.roll(1, 0) for stage in seen]).mean()
        perception = feature_distances(m.seen(x_hat), seen).minimum(limit).mean()
        utility = cross_entropy(m.task(z).float(), own[USEFUL])
        loss = utility - c.lambda1 * mse_loss(x_hat, own.x) - c.lambda2 * perception
    descend(loss, adam["protector"])


def pcgan(m: PCGAN, adam: Adams, batch: Batch, rng: torch.Generator, cast: Cast) -> None:
    c, x, s = m.config, batch.x, batch[PRIVATE]
    assert m.filter is not None
    assert m.generator is not None
    f, g, h_f, h_g = m.filter.f, m.generator.g, m.h_f[0], m.h_g[0]

    def noise() -> Tensor:
        return torch.randn(len(x), c.noise, generator=rng)

    with cast():
        censored = f(x, noise())
        read = h_f(censored).float()
        hiding = -entropy(read) + distortion_penalty(censored, x, c.epsilon, c.lam)
        inference = cross_entropy(read, s)
    simultaneously(hiding, adam["filter"], inference, adam["adversary h_f"])
    with cast():
        with torch.no_grad():
            censored = f(x, noise())
        s_new = torch.randint(2, (len(x),), generator=rng)
        replaced = g(censored, noise(), [s_new])
        read = h_g(replaced).float()
        penalty = distortion_penalty(replaced, x, c.epsilon, c.lam)
        replacing = cross_entropy(read, s_new) + penalty
        fakes = torch.full_like(s, 2)
        telling = cross_entropy(read, fakes) + cross_entropy(h_g(x).float(), s)
    simultaneously(replacing, adam["generator"], telling, adam["adversary h_g"])


def stargan(m: StarGAN, adam: Adams, batch: Batch, rng: torch.Generator, cast: Cast) -> None:
    c, draw, critic = m.config, m.obfuscator.generator, m.discriminator
    for i, part in enumerate(parts := batch.split(c.n_critic)):
        n, s, last = len(part), part[PRIVATE], i == len(parts) - 1
        with cast():
            x = 2 * part.x - 1
            x = torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 0.5, x.flip(3), x)
            s_new = (torch.rand(n, 1, generator=rng)[:, 0] * 2).long()
            with torch.set_grad_enabled(last):
                fake = draw(x, s_new[:, None].float())
            scores, (logits,) = critic(torch.cat([x, fake.detach()]))
            mix = torch.rand(n, 1, 1, 1, generator=rng)
            mixed = (mix * x + (1 - mix) * fake).detach().requires_grad_()
            mean = critic(mixed)[0].mean(dim=(1, 2, 3)).sum()
            (slope,) = torch.autograd.grad(mean, mixed, create_graph=True)
            penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
            loss = scores[n:].mean() - scores[:n].mean() + c.lam_gp * penalty
            loss = loss + c.lam_cls * cross_entropy(logits[:n], s)
        descend(loss, adam["discriminator"])
    with cast():
        scores, (logits,) = critic(fake)
        x_hat = draw(fake, s[:, None].float())
        loss = c.lam_cls * cross_entropy(logits, s_new) - scores.mean()
        loss = loss + c.lam_rec * (x - x_hat).abs().mean()
    descend(loss, adam["generator"])
