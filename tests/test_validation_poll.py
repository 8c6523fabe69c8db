"""How often SGLang looks for requests: as its scripts set it, its default where they set nothing."""

from simulator.hardware.catalogue import find_device
from simulator.validation.serving_setup import poll_steps


def test_only_scripts_that_set_an_interval_have_one() -> None:
    blackwell, hopper = find_device("B200"), find_device("H200")
    assert [poll_steps("sglang", blackwell, clients, "deepseek_v3") for clients in (15, 16)] == [10, 30]
    assert poll_steps("sglang", blackwell, 64, "qwen3_5_moe") == 30
    assert poll_steps("sglang", blackwell, 64, "glm_moe_dsa") == 1
    assert poll_steps("sglang", hopper, 64, "deepseek_v3") == 1
    assert poll_steps("vllm", blackwell, 64, "deepseek_v3") == 1
