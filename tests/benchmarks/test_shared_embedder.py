"""The sides of the comparison of a shared embedder with independent ones differ in configuration alone."""

from cclm_core.composition.config import CompositionConfig
from cclm_core.training.config import BaseConfig, ComponentConfig


def test_each_side_is_a_valid_configuration_with_the_same_networks() -> None:
    import shared_embedder

    encoders = {}
    for side in shared_embedder.SIDES:
        params = shared_embedder.parameters(side, 20, 1)
        components = {name: params.named(ComponentConfig, name) for name in shared_embedder.TASKS}
        assert params.named(CompositionConfig, "pair").parts == tuple(components)
        base = params.section(BaseConfig)
        first = next(iter(components.values()))
        own = [base.embedder.encoder, first.encoder] if side != shared_embedder.INDEPENDENT else [*first.encoder.parts]
        encoders[side] = [encoder.canonical() for encoder in own]
        steps = [component.training.steps for component in components.values()]
        assert [base.training.steps, *steps] == ([0, 20, 20] if side == shared_embedder.INDEPENDENT else [20, 0, 0])
    assert len({str(networks) for networks in encoders.values()}) == 1
