"""Settings of a scheduler to and from a scheduler_config.json, which diffusers keeps beside a model."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self

# What diffusers assumes where a file is silent, when that is not v1.5's value.
WHERE_SILENT = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "steps_offset": 0,
    "set_alpha_to_one": True,
}

# Keys that belong to some of diffusers' schedulers and mean nothing to the others.
OF_OTHER_CLASSES = {
    "set_alpha_to_one",
    "variance_type",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_flow_sigmas",
    "sigma_min",
    "sigma_max",
    "final_sigmas_type",
    "interpolation_type",
    "timestep_type",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "skip_prk_steps",
    "algorithm_type",
    "solver_order",
    "solver_type",
    "lower_order_final",
    "euler_at_final",
    "use_lu_lambdas",
    "lambda_min_clipped",
    "predict_x0",
    "solver_p",
    "disable_corrector",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "timestep_scaling",
    "original_inference_steps",
}


class ConfigFile:
    """Mixin for a dataclass whose fields have the names of diffusers' keys."""

    # Fields that diffusers takes as arguments of `step`, or not at all: its files do not know them.
    beyond_diffusers: ClassVar[tuple[str, ...]] = ()
    # Keys that would change the steps, with the only value they may have.
    unsupported: ClassVar[dict[str, Any]] = {
        "clip_sample": False,
        "thresholding": False,
        "trained_betas": None,
    }

    def to_config(self) -> dict[str, Any]:
        """A dict for json.dump that diffusers' class of the same name loads, to take the same steps.

        Settings that diffusers' files do not know are written only if changed: it goes without, and warns.
        """
        # Said aloud, because diffusers' DDPM and DDIM clip where a file is silent.
        config = {"_class_name": type(self).__name__, "clip_sample": False}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in self.beyond_diffusers or value != field.default:
                config[field.name] = value
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Self":
        """A scheduler from a scheduler_config.json, whichever of diffusers' classes wrote it.

        A key that is missing, or null, means what diffusers' class of this name makes of it; only, nothing is
        ever clipped. Keys of other classes are ignored, unknown ones with a warning.
        Raises ValueError for a wrong value, and for an unsupported option that would change the steps.
        """
        if not isinstance(config, Mapping):
            raise TypeError(f"config must be a dict, but is a {type(config).__name__}")
        config = {key: value for key, value in config.items() if key[:1] != "_" and value is not None}
        for key, only in cls.unsupported.items():
            if config.get(key, only) != only:
                raise ValueError(f"{key}={config[key]!r} in a scheduler config: only {only!r} is supported")
        settings = [field.name for field in dataclasses.fields(cls)]
        unknown = set(config).difference(settings, cls.unsupported, OF_OTHER_CLASSES)
        if unknown:
            warnings.warn(f"{cls.__name__} ignores unknown keys: {', '.join(sorted(unknown))}", stacklevel=2)
        try:
            return cls(**{key: value for key, value in (WHERE_SILENT | config).items() if key in settings})
        except TypeError as error:  # in a file, a value of the wrong kind is a wrong value
            raise ValueError(str(error)) from error
