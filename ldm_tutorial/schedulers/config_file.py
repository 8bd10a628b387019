"""Settings of a scheduler to and from a scheduler_config.json, which diffusers keeps beside a model."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..checks import warn
from .few_steps import FEW_STEPS, FewSteps

if TYPE_CHECKING:
    from typing_extensions import Self

# Keys that say how the model was trained, with the only value known here. Another one would make every sampler wrong.
FORWARD_PROCESS = {"trained_betas": None, "use_flow_sigmas": False, "timestep_type": "discrete", "invert_sigmas": False}

# Keys that belong to some of diffusers' schedulers and mean nothing to the others.
OF_OTHER_CLASSES = """
    set_alpha_to_one variance_type clip_sample_range dynamic_thresholding_ratio sample_max_value interpolation_type
    use_karras_sigmas use_exponential_sigmas use_beta_sigmas sigma_min sigma_max final_sigmas_type skip_prk_steps
    algorithm_type solver_order solver_type lower_order_final euler_at_final use_lu_lambdas lambda_min_clipped predict_x0
    solver_p disable_corrector timestep_scaling original_inference_steps flow_shift use_dynamic_shifting time_shift_type
    base_shift max_shift base_image_seq_len max_image_seq_len
""".split()

# diffusers' further samplers of the same forward process, x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) ε, for the same kind of model.
OTHER_SAMPLERS = {
    f"{name}Scheduler"
    for name in """
    PNDM LMSDiscrete DDIMInverse DDIMParallel DDPMParallel DEISMultistep DPMSolverMultistepInverse DPMSolverSinglestep
    DPMSolverSDE KDPM2Discrete KDPM2AncestralDiscrete SASolver UniPCMultistep LCM TCD
    """.split()
}


class ConfigFile:
    """Mixin for a dataclass whose fields have the names of diffusers' keys."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # of the dataclass; a type checker wants to know

    # Of a distilled model's scheduler. No field of the dataclass, since it says nothing about the steps themselves
    few_steps: FewSteps | None = None

    # Fields that diffusers takes as arguments of `step`, or not at all: its files do not know them.
    beyond_diffusers: ClassVar[tuple[str, ...]] = ()
    # Options of diffusers' class that would change its steps, with the value that does not: others are ignored with a warning.
    unsupported: ClassVar[dict[str, Any]] = {"clip_sample": False, "thresholding": False}

    # Written although it is the only value here: diffusers' DDPM and DDIM clip where a file is silent.
    always_written: ClassVar[dict[str, Any]] = {"clip_sample": False}

    # What diffusers assumes where a file is silent, when that is not v1.5's value. (Its schedulers take 0 for a silent
    # steps_offset, but its Stable Diffusion pipelines then set 1, as ours do.)
    where_silent: ClassVar[dict[str, Any]] = {
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "set_alpha_to_one": True,
    }

    def to_config(self) -> dict[str, Any]:
        """A dict for json.dump that diffusers' class of the same name loads, to take the same steps.

        Settings that diffusers' files do not know are written only if changed: it goes without, and warns.
        """
        config = {"_class_name": type(self).__name__, **self.always_written}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in self.beyond_diffusers or value != field.default:
                config[field.name] = value
        return config if self.few_steps is None else config | {FEW_STEPS: dataclasses.asdict(self.few_steps)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Self":
        """A scheduler from a scheduler_config.json, whichever of diffusers' classes wrote it.

        A key that is missing, or null, means what diffusers' pipeline with the class of this name makes of it. Options of the
        sampler that are not supported are ignored with a warning, and so are unknown keys; keys of other classes, silently.
        Raises TypeError if it is no dict, ValueError for a wrong value or a forward process that is not known here.
        """
        if not isinstance(config, Mapping):
            raise TypeError(f"config must be a dict, but is a {type(config).__name__}")
        few_steps = FewSteps.from_file(config, "a scheduler config")
        config = {key: value for key, value in config.items() if key[:1] != "_" and value is not None}
        for key, only in FORWARD_PROCESS.items():
            if config.get(key, only) != only:
                raise ValueError(f"{key}={config[key]!r} in a scheduler config: only {only!r} is supported")
        settings = [field.name for field in dataclasses.fields(cls)]
        ignored = [f"{key}={config[key]!r}" for key, only in cls.unsupported.items() if config.get(key, only) != only]
        ignored += sorted(set(config).difference(settings, cls.unsupported, FORWARD_PROCESS, OF_OTHER_CLASSES))
        if ignored:
            warn(f"{cls.__name__} ignores what it does not know: {', '.join(ignored)}")
        try:
            scheduler = cls(**{key: value for key, value in (cls.where_silent | config).items() if key in settings})
        except TypeError as error:  # in a file, a value of the wrong kind is a wrong value
            raise ValueError(str(error)) from error
        scheduler.few_steps = few_steps
        return scheduler
