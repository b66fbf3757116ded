# SPDX-License-Identifier: Apache-2.0
# Builds against ROS 2 wheels: given as -DCMAKE_PROJECT_INCLUDE=<absolute path of this file>.
#
# The wheels' exported targets name include folders of the machine that built the wheels, which do not exist here, and CMake
# refuses to generate for such targets. Once the project has been read, this keeps only the folders that do exist. Nothing
# that is installed gets edited. Needs CMake 3.21 for the directory property IMPORTED_TARGETS.
if(CMAKE_VERSION VERSION_LESS 3.21)
  message(FATAL_ERROR "building against ROS 2 wheels needs CMake 3.21 or newer, this is ${CMAKE_VERSION}")
endif()

function(karmma_keep_existing_include_folders)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      if(IS_ABSOLUTE "${folder}" AND EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER CALL karmma_keep_existing_include_folders)
